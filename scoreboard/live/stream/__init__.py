"""Events and the hub that feeds browsers with them."""
