"""Where bytes come from and where they go: inputs, staged files, atomic publish, manifests."""
