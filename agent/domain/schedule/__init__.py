"""When recurring actions happen: pure, from a rule and a state to planned instants."""
