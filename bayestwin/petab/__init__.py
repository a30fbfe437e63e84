"""PEtab: problems in its tables and in SBML become twins, as readable source, and twins become such problems."""
