"""Images: references, registries, the content store, archives, layers. What containers need of them; no container."""
