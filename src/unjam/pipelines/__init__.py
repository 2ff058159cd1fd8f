"""The pipelines API, and the pipelines that ship with unjam. A pipeline never sees the store."""
