"""How the services around the pipeline are run: from wheels on one machine, or in containers."""
