"""The inference service: draws with the mesh's own models, on Triton or in this process."""
