"""What a result hangs on: identifiability, sensitivity, comparison of twins, shares of uncertainty, simulated truth."""
