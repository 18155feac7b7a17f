"""What holds for every overlay of k8s/, whatever the schemas allow.

Each policy yields what speaks against it; faults.py plants faults for each of them, which it must find.
"""

from policies.names import every_role_runs, references_hold, secrets_are_referred_to, settings_exist
from policies.network import (
    namespaces_are_restricted,
    the_api_is_behind_the_ingress,
    the_control_plane_is_closed,
    traffic_is_denied_by_default,
)
from policies.pods import (
    images_are_pinned,
    it_stops_in_time,
    pods_are_restricted,
    pods_are_spread_and_guarded,
    probes_mean_different_things,
    resources_are_limited,
)
from policies.scaling import scaling_is_safe

ALL = [
    pods_are_restricted,
    namespaces_are_restricted,
    images_are_pinned,
    resources_are_limited,
    secrets_are_referred_to,
    probes_mean_different_things,
    it_stops_in_time,
    settings_exist,
    every_role_runs,
    references_hold,
    the_control_plane_is_closed,
    the_api_is_behind_the_ingress,
    traffic_is_denied_by_default,
    scaling_is_safe,
    pods_are_spread_and_guarded,
]
