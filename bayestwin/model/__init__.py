"""A twin as data: its states, parameters, inputs, observations, noise, events and model error."""
