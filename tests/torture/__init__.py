"""Random kill -9 of every process role; the counts come from the kernel and from the jobs themselves."""
