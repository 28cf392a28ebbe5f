"""The rates at which a console warns and notices are written, as the contract; the great providers' own limits are 0.3 %
of complaints."""

COMPLIANCE_RATES = {
    "bounce_rate_warning": 0.02,
    "bounce_rate_error": 0.05,
    "complaint_rate_warning": 0.001,
    "complaint_rate_error": 0.005,
}
