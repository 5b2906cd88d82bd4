"""What two or more services of the mesh stand on: configuration, errors, servers, channels, SQL, events, telemetry."""
