"""Storage: keeps originals and renditions, signs addresses, serves them."""
