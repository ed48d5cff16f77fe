"""Where a model looks: maps through tf-keras-vis, and checks that say whether to believe them."""
