"""Model → architecture graph: unwrap, inputs, record, rules, flow."""
