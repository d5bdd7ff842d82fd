/** The words of pages/*.js beyond overview and login. */
export default {};
