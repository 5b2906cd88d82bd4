"""How the mesh is deployed: on this machine, on Kubernetes, observed."""
