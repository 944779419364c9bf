"""The rules of the product. Imports the standard library only; time is always an argument."""
