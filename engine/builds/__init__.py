"""Images from Dockerfiles: the language (dockerfile/), the context and what it leaves out, and the builder."""
