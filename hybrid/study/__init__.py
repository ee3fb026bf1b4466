"""Study: what a session knows, in one object that everything else reads."""
