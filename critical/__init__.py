"""Critical finds the critical initialization of a language model from short proxy runs."""
