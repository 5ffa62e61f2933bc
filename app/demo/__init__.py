"""The whole main job on real packets: a lab, an agent at each of its sites, a collector, routes, the dashboard."""
