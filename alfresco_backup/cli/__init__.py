"""Commands, arguments, prompts, form fields."""
