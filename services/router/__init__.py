"""The router: accepts jobs, keeps their truth, picks providers, falls back, meters money, delivers."""
