"""What other packages may use of the gateway: its records from outside."""

from pilotage_gateway.ledger import Verified, find_decision, verify_database

__all__ = ["Verified", "find_decision", "verify_database"]
