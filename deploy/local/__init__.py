"""The mesh on one machine: its process table and the launcher behind `imagemesh up`."""
