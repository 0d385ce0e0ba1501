"""OpenVLA: a vision-language-action model of 7 billion parameters that answers action tokens."""
