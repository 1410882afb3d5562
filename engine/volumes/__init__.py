"""Volumes of this host: folders that outlive the containers that mount them."""
