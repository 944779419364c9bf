"""What builds and checks the browser's files."""
