"""Production: a policy at work: its bundle, the runtime, files of any size, and whether a promise still holds."""
