"""The whole table, in its order."""

from chaos import faults_issuer, faults_keys, faults_load, faults_policy, faults_process
from chaos.table import ROWS, Row

__all__ = ["TABLE"]

_MODULES = (faults_issuer, faults_keys, faults_process, faults_policy, faults_load)  # importing them filled ROWS

TABLE: dict[str, Row] = ROWS
