"""The replicas of each model, their connections and their health."""
