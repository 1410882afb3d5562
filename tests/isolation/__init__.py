"""What keeps a container's root away from the host and from its neighbours, proved on real containers."""
