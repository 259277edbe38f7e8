"""All promises at once: evidence in, violations out."""

from __future__ import annotations

from tests.simulation.checker import ends, history, people, queue, rules, starts
from tests.simulation.checker.violation import Violation
from tests.simulation.evidence import Evidence


def check(evidence: Evidence) -> list[Violation]:
    """Every promise that this run broke; empty for a good one."""
    ran = starts.find_starts(evidence)
    return [
        *starts.check_at_most_once(evidence, ran),
        *starts.check_repeats(evidence, ran),
        *starts.check_withdrawn(evidence, ran),
        *starts.check_windows(evidence, ran),
        *starts.check_outcomes(evidence, ran),
        *queue.check_overlaps(evidence, ran),
        *rules.check_instants(evidence),
        *rules.check_alone(evidence, ran),
        *people.check_allowed(evidence, ran),
        *people.check_refused(evidence, ran),
        *people.check_frozen(evidence),
        *people.check_lifts(evidence),
        *people.check_reports(evidence),
        *people.check_found(evidence),
        *history.check_delivery(evidence),
        *history.check_final(evidence),
        *ends.check_no_bugs(evidence),
        *ends.check_quiet(evidence),
        *ends.check_ended(evidence),
        *ends.check_agreement(evidence),
    ]
