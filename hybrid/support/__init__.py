"""The support pipeline: a tuned policy decides how deep each ticket is read; a table says what happens next."""

from hybrid.support.actions import ActionRow, ActionTable, Condition, read_conditions
from hybrid.support.config import SupportConfig, default_config
from hybrid.support.extraction import Extraction, ExtractionSettings, Extractor, Insight, RuleExtractor
from hybrid.support.field_patterns import FieldPattern, PatternTest
from hybrid.support.fields import FIELDS, Field
from hybrid.support.pipeline import SupportPipeline, TicketAnalysis

__all__ = [
    "FIELDS",
    "ActionRow",
    "ActionTable",
    "Condition",
    "Extraction",
    "ExtractionSettings",
    "Extractor",
    "Field",
    "FieldPattern",
    "Insight",
    "PatternTest",
    "RuleExtractor",
    "SupportConfig",
    "SupportPipeline",
    "TicketAnalysis",
    "default_config",
    "read_conditions",
]
