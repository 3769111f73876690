"""The drawing behind `keras-retrieval sample-photos`: buildings as solids, their surfaces, a camera, a renderer."""
