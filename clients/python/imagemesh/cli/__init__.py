"""The `imagemesh` command: one file per group of commands."""
