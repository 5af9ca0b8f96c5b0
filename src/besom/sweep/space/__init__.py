"""The search space: parameters, conditions and constraints, parsed from Hydra's overrides."""
