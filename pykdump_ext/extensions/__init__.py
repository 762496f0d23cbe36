"""Extensions that come with the package: ``extend NAME.py`` finds them from any folder."""
