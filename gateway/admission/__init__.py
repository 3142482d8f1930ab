"""Who may go to an engine now, who waits, and who is turned away."""

from gateway.admission.admission import MOST_WAITING, Admission, QueueState
from gateway.admission.figures import AdmissionFigures
from gateway.admission.queue import Reason

__all__ = ["MOST_WAITING", "Admission", "AdmissionFigures", "QueueState", "Reason"]
