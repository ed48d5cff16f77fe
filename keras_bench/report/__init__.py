"""The comparison of an experiment's runs: tables, figures, verdict, page, model cards."""
