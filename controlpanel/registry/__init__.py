"""The OCI registry at ``/v2/``: distribution-spec 1.1.1 on the panel's tenants, permissions, quotas and audit."""
