"""What looks after the dependencies: ``make audit`` and ``make sbom`` run these in build/tools."""
