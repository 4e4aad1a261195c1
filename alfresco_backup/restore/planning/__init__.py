"""From request, catalogue and facts to a plan or a refusal. Pure."""
