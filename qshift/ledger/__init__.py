"""What was sent to a service, and what came back: read with `Ledger`."""

from qshift.ledger.ledger import Ledger as Ledger
from qshift.ledger.ledger import LedgerError as LedgerError
