"""Which of two interleaved spirals is a point of?"""
