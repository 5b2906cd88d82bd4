"""What runs inside Triton: one Python-backend model for every folder under `models/`."""
