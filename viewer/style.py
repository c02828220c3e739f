"""Colours and the style sheet: dark, so that the picture is the only light in the room."""

from __future__ import annotations

from PyQt5.QtGui import QColor, QPalette
from PyQt5.QtWidgets import QApplication

GROUND = "#0b0c0e"
"""Behind everything; the picture itself is black."""
PANEL = "#121417"
"""Panels."""
RAISED = "#1b1e23"
"""What can be pressed or written into."""
LINE = "#262a31"
"""Borders and grids."""
TEXT = "#c3c8d0"
DIM = "#9097a3"
"""Captions; 6:1 on a panel."""
FAINT = "#5c636f"
"""What is out of use."""
ACCENT = "#e0a458"
"""What is chosen: amber, which spares eyes that are used to the dark."""
GOOD = "#6bbf8a"
WARN = "#e8c15a"
BAD = "#f0746c"
CURVES = ("#e0a458", "#6fb3d9", "#6bbf8a", "#c792ea")
"""Curves in one plot, told apart by people with a colour-vision deficiency as well."""

SHEET = f"""
* {{ font-size: 9pt; }}
QMainWindow, QDialog, QMessageBox {{ background: {GROUND}; }}
QWidget {{ color: {TEXT}; selection-background-color: {ACCENT}; selection-color: {GROUND}; }}
QToolTip {{ background: {RAISED}; color: {TEXT}; border: 1px solid {LINE}; padding: 4px; }}
QMainWindow::separator {{ background: {GROUND}; width: 5px; height: 5px; }}
QMainWindow::separator:hover {{ background: {LINE}; }}
QMenuBar {{ background: {GROUND}; padding: 1px; }}
QMenuBar::item {{ padding: 4px 9px; background: transparent; }}
QMenuBar::item:selected {{ background: {RAISED}; }}
QMenu {{ background: {PANEL}; border: 1px solid {LINE}; padding: 4px 0; }}
QMenu::item {{ padding: 4px 26px 4px 24px; }}
QMenu::item:selected {{ background: {RAISED}; }}
QMenu::item:disabled {{ color: {FAINT}; }}
QMenu::separator {{ height: 1px; background: {LINE}; margin: 4px 0; }}
QStatusBar {{ background: {GROUND}; color: {DIM}; }}
QStatusBar::item {{ border: none; }}
QScrollArea, QScrollArea > QWidget > QWidget#scrolled {{ background: {PANEL}; border: none; }}
QScrollBar:vertical {{ background: {PANEL}; width: 8px; margin: 0; }}
QScrollBar:horizontal {{ background: {PANEL}; height: 8px; margin: 0; }}
QScrollBar::handle {{ background: {LINE}; border-radius: 4px; min-height: 24px; min-width: 24px; }}
QScrollBar::handle:hover {{ background: {FAINT}; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: none; }}
QWidget#panel {{ background: {PANEL}; }}
QWidget#title {{ background: {PANEL}; border-bottom: 1px solid {LINE}; }}
QWidget#title QLabel {{ color: {TEXT}; font-weight: 600; }}
QWidget#title QToolButton {{ background: transparent; border: none; color: {DIM}; padding: 1px 4px; }}
QWidget#title QToolButton:hover {{ color: {TEXT}; }}
QLabel {{ background: transparent; }}
QLabel#caption {{ color: {DIM}; }}
QLabel#big {{ font-size: 15pt; font-weight: 600; }}
QLabel#warning {{ color: {WARN}; }}
QPushButton {{ background: {RAISED}; border: 1px solid {LINE}; border-radius: 3px; padding: 4px 10px; }}
QPushButton:hover {{ border-color: {FAINT}; }}
QPushButton:pressed, QPushButton:checked {{ background: {LINE}; }}
QPushButton:checked {{ color: {ACCENT}; border-color: {ACCENT}; }}
QPushButton:disabled {{ color: {FAINT}; background: {PANEL}; }}
QPushButton#danger {{ color: {BAD}; border-color: {BAD}; }}
QPushButton:focus, QLineEdit:focus, QAbstractSpinBox:focus {{ border-color: {ACCENT}; }}
QLineEdit, QAbstractSpinBox {{
    background: {RAISED}; border: 1px solid {LINE}; border-radius: 3px; padding: 3px 6px; min-height: 16px;
}}
QLineEdit:disabled, QAbstractSpinBox:disabled {{ color: {FAINT}; background: {PANEL}; }}
QComboBox QAbstractItemView {{ background: {PANEL}; border: 1px solid {LINE}; }}
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button {{ width: 0; border: none; }}
QToolButton:disabled {{ color: {FAINT}; }}
QCheckBox, QRadioButton {{ background: transparent; spacing: 6px; }}
QCheckBox:disabled {{ color: {FAINT}; }}
QProgressBar {{ background: {RAISED}; border: none; border-radius: 2px; max-height: 4px; }}
QProgressBar::chunk {{ background: {ACCENT}; border-radius: 2px; }}
QSlider {{ background: transparent; }}
QSlider::groove:horizontal {{ background: {LINE}; height: 2px; border-radius: 1px; }}
QSlider::sub-page:horizontal {{ background: {ACCENT}; }}
QSlider::handle:horizontal {{
    background: {TEXT}; width: 8px; height: 14px; margin: -6px 0; border-radius: 3px;
}}
QSlider::handle:horizontal:hover {{ background: {ACCENT}; }}
QSlider::handle:horizontal:disabled {{ background: {FAINT}; }}
QRangeSlider {{ qproperty-barColor: {ACCENT}; }}
QTabBar::tab {{ background: {GROUND}; color: {DIM}; padding: 4px 10px; }}
QTabBar::tab:selected {{ background: {PANEL}; color: {TEXT}; }}
"""


def dress(application: QApplication) -> None:
    """Give every window the style. Sets Qt's own plain style first, which looks the same on every system."""
    application.setStyle("Fusion")
    application.setPalette(_palette())
    application.setStyleSheet(SHEET)


def _palette() -> QPalette:
    """What the style sheet does not reach: system dialogs, check marks."""
    palette, role = QPalette(), QPalette.ColorRole
    grounds = {role.Window: GROUND, role.Base: PANEL, role.AlternateBase: RAISED, role.Button: RAISED}
    writing = {role.WindowText: TEXT, role.Text: TEXT, role.ButtonText: TEXT, role.ToolTipText: TEXT}
    marks = {role.Highlight: ACCENT, role.HighlightedText: GROUND, role.Link: ACCENT, role.ToolTipBase: RAISED}
    for part, colour in {**grounds, **writing, **marks}.items():
        palette.setColor(part, QColor(colour))
    for part in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, part, QColor(FAINT))
    return palette
