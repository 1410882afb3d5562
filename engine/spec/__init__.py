"""Pure: what was asked for → an OCI runtime-spec config. Testable without root."""
