"""unjam: media jobs that never jam."""
