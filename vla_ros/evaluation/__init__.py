"""Evidence: what a run did, judged and shown from its recording alone."""
