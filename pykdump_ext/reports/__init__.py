"""What people see of a dump: reports, views of the p2m, maps, pictures, pages."""
