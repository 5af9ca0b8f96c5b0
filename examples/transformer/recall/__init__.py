"""Does the first symbol of a sequence occur again?"""
