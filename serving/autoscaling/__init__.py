"""Has Ray Serve run as many replicas of a model as `serving.scaling` decides: in its controller, by
what the routers report to it.
"""
