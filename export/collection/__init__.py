"""A folder of photos that can be searched; its index and all else that is remembered of it are in a state folder."""
